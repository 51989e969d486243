# The engine and the `perdure` command. Built and started by docker-compose.yml:  docker compose up --build
FROM python:3.11-slim

COPY . /tmp/perdure
RUN pip install --no-cache-dir /tmp/perdure \
 && rm -rf /tmp/perdure \
 && useradd --create-home --uid 1000 perdure \
 && install -d -o perdure -g perdure /var/lib/perdure

USER perdure
WORKDIR /var/lib/perdure
# Stores that are rebuilt from Kafka when they are gone: no volume is needed.
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
ENTRYPOINT ["perdure"]
CMD ["--help"]
