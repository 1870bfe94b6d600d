"""The user's model made elastic, and plain subnets taken out of it."""

from bnas.supernet.elastic import ELASTIC, Elastic
from bnas.supernet.extract import Reshaping, extract_subnet, reshape, reshaping
from bnas.supernet.importance import IMPORTANCE, Batches, Scores, reorder_channels
from bnas.supernet.supernet import Supernet
from bnas.supernet.verify import Proof, Refused, prove

__all__ = [
    "ELASTIC",
    "IMPORTANCE",
    "Batches",
    "Elastic",
    "Proof",
    "Refused",
    "Reshaping",
    "Scores",
    "Supernet",
    "extract_subnet",
    "prove",
    "reorder_channels",
    "reshape",
    "reshaping",
]
