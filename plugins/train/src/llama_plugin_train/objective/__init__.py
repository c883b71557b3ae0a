"""What is made small: losses over hidden states, which never hold the logits of a whole batch."""
