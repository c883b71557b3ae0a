"""A model that comes with its plugin, so that the first command works offline.

The folder `model` holds what any folder of a model holds, and the suite that it is measured by.
"""
