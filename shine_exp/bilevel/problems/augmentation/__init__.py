"""The distribution of a data augmentation."""
