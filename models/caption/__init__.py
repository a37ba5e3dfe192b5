"""Floor 7: captions: a text of an image, by the decoder of sequence to sequence."""
