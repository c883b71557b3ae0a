"""From an idea to a plugin that conforms: `llama plugins new` and `llama plugins check`."""
