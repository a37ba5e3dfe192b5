"""Floor 7: sequence models: objectives, data, decoding."""
