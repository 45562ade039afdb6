"""What an extraction did, added up over its scans."""

from __future__ import annotations

from dataclasses import dataclass, field

from featx.extraction.scan import ScanResult
from featx.images.image_warnings import Remarks


@dataclass
class Statistics:
    """Counts, seconds and remarks of all scans of one extraction.

    Attributes
    ----------
    computed : int
        Distinct images that got an embedding.
    compute_seconds, start_seconds : float
        Of the scans in which something was computed, and of these what starting the network took.
    gather_seconds : float
        What reading and verifying the cached embeddings took the last time.
    remarks : Remarks
        On the images that were decoded.
    """

    computed: int = 0
    compute_seconds: float = 0.0
    start_seconds: float = 0.0
    gather_seconds: float = 0.0
    remarks: Remarks = field(default_factory=Remarks)

    def add(self, scan: ScanResult) -> None:
        """Add one scan."""
        self.remarks.update(scan.ledger.remarks)
        self.computed += scan.outcome.computed
        if scan.outcome.computed:  # else neither its seconds nor the network's start count
            self.compute_seconds += scan.compute_seconds
            self.start_seconds += scan.outcome.start_seconds
