# For CPU:   docker build --tag hdt .
# For CUDA:  docker build --tag hdt --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# Then:      docker run --rm --volume "$PWD:/data" hdt distill load.csv        (CUDA: docker run --gpus all …)
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY constraints.txt ./
# torch by itself and first: of its own index, and a layer that a change of hdt leaves alone.
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
      --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY hdt hdt
COPY recipes recipes
RUN pip install --no-cache-dir --constraint constraints.txt '.[search]' \
    && useradd --create-home --uid 1000 hdt

USER 1000
WORKDIR /data
ENTRYPOINT ["hdt"]
CMD ["--help"]
