"""The engine, and what it takes to have one running.

- A request on its way: request, intake, answer, chains, sampling, processors, stops, verify,
  faults.
- A step: engine, scheduler, tenants, sequence, blocks, batch, drafting, trace.
- Who asks: faces in this process; supervisor, held, wire and worker in another; search,
  conversation, dialect.
- From a name to a program: load, finding, facts, fitting, compiling, providers, ranks, memory.
- How good and how fast: evaluate, suite, subject, measure, profile.

The first three import nothing of the last two.
"""
