"""What pyproject.toml cannot say beside its search for packages: configs/ goes into the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxlung*"]), "jaxlung.configs"],
    package_dir={"jaxlung.configs": "configs"},
)
