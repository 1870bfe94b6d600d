"""The search algorithms, by name."""

from bnas.search.algorithms.evolution import evolution
from bnas.search.algorithms.linas.linas import linas
from bnas.search.algorithms.local import local
from bnas.search.algorithms.nsga2 import nsga2
from bnas.search.algorithms.nsga3 import nsga3
from bnas.search.algorithms.random_search import random_search
from bnas.search.algorithms.rnsga2 import rnsga2
from bnas.search.proposals import Algorithm

SEARCHES: dict[str, Algorithm] = {
    "linas": linas,
    "nsga2": nsga2,
    "nsga3": nsga3,
    "rnsga2": rnsga2,
    "evolution": evolution,
    "local": local,
    "random": random_search,
}
