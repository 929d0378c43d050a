# docker build -t dreamer . && docker run -it -v "$PWD/runs:/dreamer/runs" dreamer env=walker_walk env.obs=proprio
FROM python:3.12-slim

# OpenGL without a screen, and a C++ compiler for torch.compile.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1-mesa-dri g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /dreamer
COPY . .
RUN pip install --no-cache-dir --constraint requirements.lock --editable .

ENTRYPOINT ["python", "train.py"]
