"""From maps to a panoptic map and scored instances."""
