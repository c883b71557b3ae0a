"""A route for llama-core's servers: the application is in `inventory`, the hook in `plugin`."""
