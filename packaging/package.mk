# Packages; included by the Makefile. What each is, and how it was checked: packaging/README.md
.PHONY: deb dist package-test
deb: ## build the Debian package into dist/
	@packaging/build_deb.sh dist

SUITES ?= bookworm trixie
ARCHES ?= amd64
.PHONY: debs repository
debs: ## one .deb for each of SUITES (clean roots by debootstrap) and ARCHES into dist/SUITE/; needs root
	@packaging/build_debs.sh dist $(ARCHES) -- $(SUITES)

# KEY: whose signature, as gpg names it; without one a key is made in dist/keys, and used again.
repository: ## sign what is in dist/SUITE/ as a repository for apt in dist/repository/; KEY=, SUITES=
	@packaging/repository.sh dist dist/repository $(SUITES)

dist: ## build the source distribution and the wheel (abi3) into dist/
	@PYTHON=$(PY) packaging/build_dist.sh dist

# A machine that boots, or waits for a download, leaves a processor to another one.
PACKAGE_WORKERS ?= -n 3
# What builds and boots; the machines fetch the rest themselves.
package-test: APT_PACKAGES += debootstrap:debootstrap debhelper:dh dh-python:dh_python3 dpkg-dev:dpkg-buildpackage \
	lintian:lintian
package-test: $(ENGINE) ## build all packages, install them in clean places, run, remove; minutes, needs root and network
	@$(PY) -m pytest -q -rs --durations=10 $(PACKAGE_WORKERS) -m package tests/packaging
