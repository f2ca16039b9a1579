"""Label formats of annotation tools that can be told as a COCO document."""
