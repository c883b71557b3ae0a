"""The run itself: its configuration, the steps, what is said and done between them, its ranks.

Everything below is put together here and nowhere else. Modules that read a configuration or tell
what happened are free of torch; the loop alone imports it.
"""
