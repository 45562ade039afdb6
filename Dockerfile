# featx's command line and its server.
#
#   docker build -t featx .
#   docker run --rm -v "$PWD:/work" -v featx-cache:/cache featx extract images -b mobilenet_v2
#   docker run --rm -v "$PWD:/work" -v featx-cache:/cache -p 127.0.0.1:8000:8000 \
#       featx serve model.featx --host 0.0.0.0
FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY featx featx
RUN python -m venv /opt/featx \
    && /opt/featx/bin/pip install --no-cache-dir '.[openvino,export,serve,heic]'

FROM python:3.13-slim-trixie
COPY --from=build /opt/featx /opt/featx
# Not root: what decodes foreign images has as few rights as can be.
RUN useradd --create-home --uid 1000 featx \
    && install -d -o featx -g featx /cache /cache/featx /cache/networks /cache/keras /work
USER featx
WORKDIR /work
ENV PATH=/opt/featx/bin:$PATH \
    FEATX_CACHE=/cache/featx \
    FEATX_NETWORKS=/cache/networks \
    KERAS_HOME=/cache/keras \
    TF_CPP_MIN_LOG_LEVEL=3
VOLUME ["/cache"]
EXPOSE 8000
ENTRYPOINT ["featx"]
CMD ["--help"]
