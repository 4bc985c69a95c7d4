"""The read side: visitors' segments for the SDKs, and the control and listing API."""
