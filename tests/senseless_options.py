"""Options and settings of each job that contradict each other, or the files there are to read and write."""

LONG = "x" * 5000
# in each line, options that contradict each other or this run
NO_SENSE = {
    "prepare": f"""
        --verify none
        --verify folder
        --verify ''
        --verify deep
        corpus.train=none.txt
        corpus.train=folder
        corpus.train=empty.txt
        corpus.train=binary
        corpus.train=deep.jsonl
        corpus.train=deep.json corpus.valid_fraction=0
        corpus.train=hf://folder?split=none
        corpus.train=s3:/x
        corpus.train=builtin:none
        corpus.train=builtin:copy?delay=0
        corpus.train={LONG}
        tokenizer.path=binary
        tokenizer.path=none
        data.directory=text.txt
        data.directory=text.txt/below
        data.directory={LONG}""",
    "train": """
        run.directory=text.txt
        run.directory=text.txt/below
        train.initial_weights=none
        train.initial_weights=folder
        train.teacher=none
        train.teacher=folder
        train.teacher_weight=2
        train.teacher_temperature=0
        cluster.num_workers=3
        cluster.device=cuda
        --seeds 2 corpus.train=none.txt
        --seeds 3 run.directory=text.txt
        corpus.train=none.txt""",
    "search": """
        cluster.backend=local
        corpus.train=none.txt
        search.num_trials=0
        search.metric=loss
        'search.space={nosuch: [1]}'
        'search.space={train.bptt: []}'
        'search.space=[1]'
        'search.space={optimizer.lr:0.1}'
        'search.space={train.bptt: {min: 3}}'
        'search.space={run.directory: [a, b]}'
        'search.space={model: [1]}'""",
    "compare": """
        cluster.backend=local
        corpus.train=none.txt
        compare.seeds=[]
        compare.seeds=[1,1]
        compare.seeds=x
        compare.parameters=0
        compare.tokens=[]x
        compare.split=test
        compare.rounds=1
        train.patience=3
        train.max_steps=3
        corpus.valid_fraction=0
        'compare.variants={}'
        'compare.variants={a: {model.cell: gru}}'
        'compare.variants={a: {}, b: {}}'
        'compare.variants={a: {}, b: {model.hidden_size: 3}}'
        'compare.variants={a: {}, b: {corpus.train: other.txt}}'
        'compare.variants={a: {}, b: {tokenizer.kind: word}}'
        'compare.variants={a: {}, b: [1]}'
        'compare.variants={a: {}, b: {model: 1}}'
        'compare.search={num_trials: 3}'
        'compare.search={train.seed: [1, 2]}'
        'compare.search={optimizer.lr: {loguniform: [1, 0]}}'""",
    "evaluate": """
        --split test
        --text text.txt --split test
        --tune
        --by-line
        --cache --streams 3
        --cache --exact
        --cache --cache-weight 1
        --dynamic sgd --dynamic-lr 0
        --bleu 1
        --top-p 2
        --temperature -1
        --compare none
        --compare folder
        --surprisal x.xlsx
        --regions text.txt
        --regions text.txt --surprisal x.tsv
        --stimuli text.txt --text text.txt
        --stimuli text.txt --cache
        --format neural-complexity
        --format neural-complexity --surprisal x.parquet
        --runs run run
        --runs run folder --benchmark blimp=folder
        --benchmark blimp
        --benchmark nosuch=folder
        --benchmark blimp=folder
        --benchmark syntaxgym=none
        --benchmark babylm=text.txt
        --benchmark agreement=folder blimp=folder
        --surprisal x.tsv --ngram 6
        --surprisal x.tsv --ngram none.arpa
        --surprisal x.tsv --ngram text.txt
        --surprisal x.tsv --columns rank nosuch
        --surprisal x.tsv --word-mass 0.5
        --ngram 3
        --runs run
        --adapt sentence
        --top-k 3
        --continuation-tokens 5
        --cache-window 5
        --dynamic-decay 0.5
        --dynamic sgd --dynamic-epsilon 0.1
        --pairs text.txt --text text.txt
        --surprisal x.tsv --burn-in 3
        --help nosuch""",
    "generate": """
        --prompt ''
        --prompt Ж
        --prompt a --prompts prompts.txt
        --stop ''
        --beams 0
        --beams 2 --top-k 3
        --beams 2 --length-penalty 99
        --interactive --output x
        --samples 2000000000
        --min-p -1
        --length-penalty 0.5
        --interactive --samples 2
        --repetition-penalty 0
        --at-once 0""",
    "compress": """
        --prune 1
        --units -1
        --fine-tune-steps 3
        --tokens 0
        --split test""",
    "export": """
        --license MIT
        --to folder
        --to text.txt
        --to text.txt/below --run none
        --format xml""",
    "gradients": """
        --share 0
        --share 1
        --run run run
        --length 2000000000
        --figure x.xlsx
        --streams 0
        --windows -3
        --split test""",
    "context": """
        --share 1
        --longest 0
        --longest 2000000000
        --contexts 3 0
        --contexts
        --longest 9 --contexts 3
        --targets 0
        --within 1
        --within -0.1
        --change nosuch
        --changed-tokens 3
        --change shuffled --changed-tokens 0
        --change replaced --longest 900000
        --run run run
        --figure x.xlsx
        --seed -1
        --split test""",
    "units": """
        --tokens 99
        --tokens 2000000000
        --shown 0
        --unit 0.h.8
        --unit 7.h.0
        --unit ''
        --unit x
        --states x.csv
        --states none/below/x.parquet
        --output folder
        --text none
        --text text.txt --split valid
        --seed -1
        --split test""",
    "ngram": """
        --order 0
        --order 6
        --data none
        --data folder
        --split test
        --to folder
        --to none/below/x.arpa""",
    "probe": """
        --probe nothing
        --probe ''
        --probe copy?delay=0
        --probe 'copy?nosuch=3'
        --examples 0
        --examples 2000000000
        --run run run
        --figure x.xlsx
        --figure none/below/x.png""",
    "teach": """
        --teacher none
        --teacher folder
        --teacher text.txt
        --data none
        --data folder
        --to folder
        --to text.txt/below
        --to s3://bucket/x
        --top-k 0
        --streams 0
        --burn-in -1
        --temperatures 0
        --split test""",
    "submit": """
        run.directory=relative data.directory=relative
        corpus.train=none.txt
        --fresh --nosuch
        --verify none --config none
        --pip none
        --address http://127.0.0.1:9""",
}
