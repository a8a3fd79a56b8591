"""Shipped experiments: one commented YAML file each, named on the command line by its stem."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)  # a project's folder of this name, see litlab.packages
