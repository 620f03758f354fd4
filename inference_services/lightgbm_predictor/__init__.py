"""The tabular predictor: a LightGBM booster with its calibration, behind the V2 protocol."""
