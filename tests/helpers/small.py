"""The small sweep that most tests run."""

SMALL = """
name: small
dataset: {digits: {size: 8}}
populations:
  - {architecture: {mlp: {hidden: [16]}}, pools: 2, members: 3, train: {epochs: 2, batch_size: 128, lr: 0.1}}
subsets: {sizes: [2, 3], pairs: all}
methods:
  - uniform_soup
  - greedy_soup
  - logit_average
  - probability_average
  - {feature_average: {head: [first, average]}}
  - {interpolation: {weight: [0, 0.5, 1]}}
scalings: [none, {magnify: {factor: 2, members: [all, first]}}]
execution: {mlflow: false, block_size: 16, workers: 1}
"""
