"""Floor 7: captions of images: strips of digits and what they say in words."""
