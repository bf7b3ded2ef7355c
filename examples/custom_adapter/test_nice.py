"""The whole conformance kit: `pip install 'osiris-core[testing]' .`, then `pytest`."""

import pytest

from osiris_core import AdapterFactory
from osiris_core.testing import AdapterConformance, Arrival


class TestNice(AdapterConformance):
    arrivals = {"niceness": Arrival({"niceness": 17}, "nice", prints="17")}

    @pytest.fixture
    def adapter(self):
        return AdapterFactory.create("nice")
