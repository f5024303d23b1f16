# The server alone: docker build -t signs . && docker run -p 8000:8000 signs (options of `serve` may follow)
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY kd_lib kd_lib
RUN pip install --no-cache-dir ".[serve]" && rm -rf /app/*
USER nobody
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["python", "-m", "kd_lib", "serve", "--host", "0.0.0.0"]
