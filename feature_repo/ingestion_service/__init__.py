"""The process that producers publish their events to, over HTTP."""
