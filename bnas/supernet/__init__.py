"""The user's model made elastic, and plain subnets taken out of it."""

from bnas.supernet.elastic import ELASTIC
from bnas.supernet.extract import extract_subnet
from bnas.supernet.importance import IMPORTANCE, reorder_channels
from bnas.supernet.supernet import Supernet
from bnas.supernet.verify import prove

__all__ = ["ELASTIC", "IMPORTANCE", "Supernet", "extract_subnet", "prove", "reorder_channels"]
