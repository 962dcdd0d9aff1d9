"""Published figures, in percent, to be shown alongside one's own, each with its model and source.

They are for other models, trained on other and mostly much larger corpora: GPT-2 on 40 GB of text, the LSTMs of BLiMP
and of Gulordava et al. on 83 million words of Wikipedia.
"""

from __future__ import annotations

from dataclasses import dataclass

BLIMP_SOURCE = "Warstadt et al. 2020, corrected results (github alexwarstadt/blimp, raw_results/summary)"
SYNTAXGYM_SOURCE = "Hu et al. 2020, mean of 31 suites (github cpllab/syntactic-generalization, data/raw/sg_results)"
AGREEMENT_SOURCE = "Gulordava et al. 2018, best of each kind (github facebookresearch/colorlessgreenRNNs)"


@dataclass(frozen=True)
class Published:
    """A model's figures, in percent, by the names of groups."""

    model: str
    source: str
    figures: dict[str, float]


def published(benchmark: str, variant: str = "") -> list[Published]:
    """Return the figures published for a benchmark, or for a ``variant`` of it; for some, none are known."""
    return PUBLISHED.get((benchmark, variant), [])


def _columns(source: str, models: list[str], table: str) -> list[Published]:
    """Return a model for each column of a table of names and figures."""
    rows = [line.split() for line in table.strip().splitlines()]
    return [
        Published(model, source, {row[0]: float(row[i]) for row in rows}) for i, model in enumerate(models, start=1)
    ]


BLIMP = """
all                                                  69.8  61.2  69.6  83.0
anaphor_agreement                                    91.7  47.9  94.1  99.3
argument_structure                                   73.2  71.9  72.2  81.8
binding                                              73.5  64.4  74.7  80.9
control_raising                                      67.0  68.5  71.5  81.9
determiner_noun_agreement                            85.4  70.0  83.0  95.8
ellipsis                                             67.6  36.9  77.1  89.3
filler_gap_dependency                                73.9  60.2  66.6  81.3
irregular_forms                                      89.0  79.5  78.1  91.9
island_effects                                       46.6  57.2  48.3  72.7
npi_licensing                                        51.7  45.5  55.2  76.8
quantifiers                                          64.5  53.5  69.3  79.0
subject_verb_agreement                               80.1  60.3  75.9  86.4
anaphor_gender_agreement                             88.2  43.9  91.2  99.4
anaphor_number_agreement                             95.2  51.9  97.0  99.2
animate_subject_passive                              71.5  70.3  74.3  76.6
animate_subject_trans                                86.8  90.7  88.5  84.9
causative                                            68.4  53.5  57.5  78.2
drop_argument                                        78.9  71.6  70.3  80.7
inchoative                                           65.3  50.9  54.3  65.9
intransitive                                         78.5  67.8  67.2  84.2
passive_1                                            71.9  89.2  80.6  89.3
passive_2                                            72.5  82.2  80.9  90.2
transitive                                           64.7  70.8  75.8  86.0
principle_A_c_command                                58.8  57.8  60.8  73.7
principle_A_case_1                                  100.0 100.0 100.0 100.0
principle_A_case_2                                   87.3  48.9  95.3  94.8
principle_A_domain_1                                 98.3  95.2  99.1  98.4
principle_A_domain_2                                 68.3  56.4  69.7  77.5
principle_A_domain_3                                 55.2  52.2  60.0  75.4
principle_A_reconstruction                           46.4  40.4  37.9  46.8
existential_there_object_raising                     65.9  83.5  75.9  78.4
existential_there_subject_raising                    79.5  77.4  78.7  91.1
expletive_it_object_raising                          63.0  71.5  71.5  79.2
tough_vs_raising_1                                   33.6  32.6  45.2  72.0
tough_vs_raising_2                                   93.0  77.4  86.1  88.9
determiner_noun_agreement_1                          91.8  88.3  91.7  98.8
determiner_noun_agreement_2                          91.9  86.3  81.1  97.7
determiner_noun_agreement_irregular_1                81.5  85.4  88.3  95.7
determiner_noun_agreement_irregular_2                86.0  90.4  81.6  95.3
determiner_noun_agreement_with_adj_2                 86.2  49.7  78.1  94.9
determiner_noun_agreement_with_adj_irregular_1       76.2  53.0  80.8  92.7
determiner_noun_agreement_with_adj_irregular_2       82.9  55.4  76.6  94.0
determiner_noun_agreement_with_adjective_1           86.7  51.9  85.9  97.5
ellipsis_n_bar_1                                     67.8  23.4  65.1  91.5
ellipsis_n_bar_2                                     67.4  50.4  89.2  87.2
wh_questions_object_gap                              79.4  52.7  60.7  84.2
wh_questions_subject_gap                             91.5  82.0  82.5  95.6
wh_questions_subject_gap_long_distance               95.6  85.6  86.2  87.1
wh_vs_that_no_gap                                    96.9  82.5  86.4  96.8
wh_vs_that_no_gap_long_distance                      97.3  81.0  91.2  93.8
wh_vs_that_with_gap                                  42.8  17.6  42.0  55.1
wh_vs_that_with_gap_long_distance                    13.7  20.0  17.2  56.3
irregular_past_participle_adjectives                 92.8  79.4  90.5  97.7
irregular_past_participle_verbs                      85.3  79.6  65.8  86.1
adjunct_island                                       67.4  47.9  64.5  89.4
complex_NP_island                                    47.4  49.7  57.5  72.2
coordinate_structure_constraint_complex_left_branch  30.1  32.0  35.8  81.0
coordinate_structure_constraint_object_extraction    70.5  59.3  74.4  85.4
left_branch_island_echo_question                     31.6  95.8  63.0  52.3
left_branch_island_simple_question                   36.1  56.5  35.5  87.1
sentential_subject_island                            42.8  60.5  36.5  35.5
wh_island                                            46.7  56.2  19.5  78.9
matrix_question_npi_licensor_present                  1.6   1.2   0.7  65.4
npi_present_1                                        53.6  46.8  60.5  64.8
npi_present_2                                        53.9  46.9  48.2  64.3
only_npi_licensor_present                            92.9  56.6  79.8  94.5
only_npi_scope                                       36.4  29.8  45.3  78.5
sentential_negation_npi_licensor_present            100.0  92.7  98.8  97.1
sentential_negation_npi_scope                        23.2  44.7  53.3  73.2
existential_there_quantifiers_1                      96.3  90.5  93.7  99.5
existential_there_quantifiers_2                      16.2  62.3  14.0  42.4
superlative_quantifiers_1                            62.8  44.7  84.3  87.0
superlative_quantifiers_2                            82.6  16.5  85.2  87.2
distractor_agreement_relational_noun                 76.0  23.5  77.2  79.5
distractor_agreement_relative_clause                 62.7  21.7  59.8  65.7
irregular_plural_subject_verb_agreement_1            81.1  72.6  77.6  92.8
irregular_plural_subject_verb_agreement_2            89.1  87.6  82.7  92.4
regular_plural_subject_verb_agreement_1              89.0  75.5  73.1  96.7
regular_plural_subject_verb_agreement_2              82.5  80.9  85.3  91.0
"""
# LSTM: mean of three seeds on BLLIP-LG, 42 million words; GRNN is the LSTM of Gulordava et al.
SYNTAXGYM = """
all                    55.1  56.3  37.5  78.4
center_embed           75.0  85.7  73.8  92.9
center_embed_mod       57.1  78.6  65.5  85.7
cleft                 100.0 100.0  62.5 100.0
cleft_modifier         37.5  90.0  45.0  92.5
fgd_hierarchy          50.0  54.2  43.1  62.5
fgd_object             95.8  87.5  83.3  95.8
fgd_pp                 62.5  83.3  45.8  87.5
fgd_subject            91.7  70.8  95.8  50.0
mvrr                   60.7  71.4  34.5  78.6
mvrr_mod               67.9  67.9  28.6  75.0
npi_orc_any             2.6  81.6   4.4  97.4
npi_orc_ever            7.9   0.0  12.3 100.0
npi_src_any            13.2  78.9   0.0  57.9
npi_src_ever           15.8  28.9   0.0  92.1
npz_ambig              87.5  83.3  68.1  91.7
npz_ambig_mod          83.3  79.2  40.3  83.3
npz_obj                95.8 100.0  88.9 100.0
npz_obj_mod            95.8  95.8  77.8 100.0
number_orc             42.1  10.5   0.0  63.2
number_prep            47.4  68.4   3.5  78.9
number_src             68.4  73.7   1.8  78.9
reflexive_orc_fem       0.0   0.0   1.8  47.4
reflexive_orc_masc      5.3  10.5   3.5  84.2
reflexive_prep_fem      0.0   0.0  12.3  21.1
reflexive_prep_masc    63.2  26.3  38.6  78.9
reflexive_src_fem       0.0   0.0   5.3  15.8
reflexive_src_masc     26.3  26.3  40.4  63.2
subordination          87.0  39.1  46.4  95.7
subordination_orc-orc  87.0  47.8  50.7  87.0
subordination_pp-pp    95.7  52.2  53.6  91.3
subordination_src-src  87.0  52.2  36.2  82.6
"""
PUBLISHED = {
    ("blimp", ""): _columns(BLIMP_SOURCE, ["LSTM", "5-gram", "TXL", "GPT-2"], BLIMP),
    ("syntaxgym", ""): _columns(SYNTAXGYM_SOURCE, ["GRNN", "JRNN", "LSTM", "GPT-2"], SYNTAXGYM),
    ("agreement", "English"): _columns(
        AGREEMENT_SOURCE, ["LSTM", "RNN", "5-LSTM"], "original 80.5 73.2 70.7\nnonce 71.8 64.2 56.6"
    ),
    ("agreement", "Italian"): _columns(
        AGREEMENT_SOURCE, ["LSTM", "RNN", "5-LSTM"], "original 90.8 86.6 83.2\nnonce 84.8 76.2 79.1"
    ),
    ("agreement", "Hebrew"): _columns(
        AGREEMENT_SOURCE, ["LSTM", "RNN", "5-LSTM"], "original 95.2 88.5 90.1\nnonce 79.8 74.4 77.1"
    ),
}
