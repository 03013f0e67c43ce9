"""SAEs of the sae_lens library (extra `saelens`): its releases, its folders, dictionary_learning folders."""
