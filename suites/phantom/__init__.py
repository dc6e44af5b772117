"""The phantom: a small made-up world of known ground truth, and a base model that knows it.

As a hospital scans a phantom of known shape to learn whether its scanner reads true, Lethe fine-tunes
this model on a made-up finance domain to learn whether the instrument reads forgetting rightly.

    words.py     vocabularies, the name grammar, seeded streams, the train/dev/test split
    people.py    facts about people: statements, biographies, questions
    exact.py     families with one right answer: arithmetic, order, strings, look-up
    language.py  families about language: grammar, format, chat, story
    world.py     the families together: test items, general pool, pretraining documents
    trade.py     plain text in finance wording, for the base
    finance.py   the domain: records, planted near-duplicates and corruptions, truth masks
    model.py     tokenizer, chat template, architecture
    pretrain.py  the training of the base, resumable
    files.py     writes tasks, general data and domain
    card.py      scores the base and writes its card
    build.py     `python -m suites.phantom.build` rebuilds everything from the seed
"""
