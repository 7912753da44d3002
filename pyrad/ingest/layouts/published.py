"""The name of a published data set -> the function that makes a table of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pyrad.ingest.layouts import Listing
from pyrad.ingest.layouts.busi import busi
from pyrad.ingest.layouts.covid import cc_ccii, covid_ct
from pyrad.ingest.layouts.ddti import ddti
from pyrad.ingest.layouts.mrnet import mrnet
from pyrad.ingest.layouts.radimagenet import radimagenet
from pyrad.ingest.layouts.rsna import rsna_ich, rsna_pneumonia
from pyrad.ingest.table import Table

PUBLISHED: Mapping[str, Callable[[Listing], list[Table]]] = MappingProxyType(
    {
        "radimagenet": radimagenet,
        "busi": busi,
        "ddti": ddti,
        "mrnet": mrnet,
        "rsna-pneumonia": rsna_pneumonia,
        "rsna-ich": rsna_ich,
        "covid-ct": covid_ct,
        "cc-ccii": cc_ccii,
    }
)
