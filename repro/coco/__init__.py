"""Data sets in the COCO panoptic format."""
