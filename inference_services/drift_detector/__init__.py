"""The drift detector: has what the models are asked about left what they were trained on?"""
