"""Real processes, real load, real faults: what is answered while parts are down, and how soon they take part again."""
