"""Imports a module that nobody has, to show what a broken plugin does to the rest: nothing."""

import a_module_that_nobody_has

from llama_core import hookimpl


@hookimpl
def llama_create_transform(name, options):
    return a_module_that_nobody_has.Transform(**options)
