"""Maps the top-level folders into the one import namespace ``motet``.

``front/`` is ``motet`` itself and every other room is a subpackage of it, so that
nothing called ``compiler`` or ``runtime`` lands in a user's site-packages.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("runtime", "targets", "passes", "compiler", "benchmarks")

packages = ["motet", *(f"motet.{name}" for name in find_packages("front"))]
package_dir = {"motet": "front"}
for room in ROOMS:
    if Path(room).is_dir():
        package_dir[f"motet.{room}"] = room
        packages += [f"motet.{room}", *(f"motet.{room}.{name}" for name in find_packages(room))]

setup(packages=packages, package_dir=package_dir)
