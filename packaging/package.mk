# Packages; included by the Makefile. What each is, and how it was checked: packaging/README.md
.PHONY: deb dist package-test
deb: ## build the Debian package into dist/
	@packaging/build_deb.sh dist

dist: ## build the source distribution and the wheel (abi3) into dist/
	@PYTHON=$(PY) packaging/build_dist.sh dist

# What builds and boots; the machines fetch the rest themselves.
package-test: APT_PACKAGES += debootstrap:debootstrap debhelper:dh dh-python:dh_python3 dpkg-dev:dpkg-buildpackage \
	lintian:lintian
package-test: $(ENGINE) ## build all packages, install them in clean places, run, remove; minutes, needs root and network
	@$(PY) -m pytest -q -m package tests/packaging
