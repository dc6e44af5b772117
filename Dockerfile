# docker build --target cpu -t lethe:cpu .      docker build --target cuda -t lethe:cuda .
# docker run --rm -v "$PWD/results:/data/results" lethe:cpu compare finance.json
FROM python:3.11-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt . \
    && rm -rf /src
RUN useradd --create-home lethe && mkdir /data && chown lethe /data
USER lethe
WORKDIR /data
ENTRYPOINT ["lethe"]
CMD ["--help"]

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS cuda
RUN apt-get update && apt-get install -y --no-install-recommends git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/lethe/bin:$PATH
RUN python3 -m venv /opt/lethe
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[deepspeed,liger]' && rm -rf /src
RUN useradd --create-home lethe && mkdir /data && chown lethe /data
USER lethe
WORKDIR /data
ENTRYPOINT ["lethe"]
CMD ["--help"]
