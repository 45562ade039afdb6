"""What a server has done so far, in the text that Prometheus reads."""

from __future__ import annotations

from collections import Counter


class Metrics:
    """Counts of requests and images, and the seconds of their answers.

    Attributes
    ----------
    requests : Counter
        Requests to predict by status.
    images : int
        Answered ones.
    seconds : float
        From the whole body to the answer, all images together.
    """

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.images = 0
        self.seconds = 0.0

    def text(self) -> str:
        """Return the counts in the text format of Prometheus, version 0.0.4."""
        lines = [
            "# HELP featx_requests_total Requests to predict, by HTTP status.",
            "# TYPE featx_requests_total counter",
            *(
                f'featx_requests_total{{status="{status}"}} {count}'
                for status, count in sorted(self.requests.items())
            ),
            "# HELP featx_images_total Images that were answered.",
            "# TYPE featx_images_total counter",
            f"featx_images_total {self.images}",
            "# HELP featx_answer_seconds_total Seconds of answering images.",
            "# TYPE featx_answer_seconds_total counter",
            f"featx_answer_seconds_total {self.seconds:.6f}",
        ]
        return "\n".join(lines) + "\n"
