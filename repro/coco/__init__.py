"""Data sets in the COCO panoptic format: COCO's own layout, and ADE20K's."""
