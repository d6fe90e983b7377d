"""Parts of the attention kernel."""
