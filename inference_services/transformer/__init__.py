"""The transformer: events in, decisions out, whatever else is down."""
