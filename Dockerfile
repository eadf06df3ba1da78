# The gateway: docker build -t solar .
#
# BUILDER is any image with Python 3.11 or newer, pip and a shell; if it has a C compiler too, what each request passes
# through is compiled. BASE has the same Python at the same path, and is what runs. SOLAR_COMPILE is 1 to insist on a
# compiler, or 0 to do without. The other arguments are pip's own: an index of yours, or, to build without any, a folder of
# wheels (in BUILDER, or wheels/ in this checkout), for what compiles too if that is wanted:
#   docker build --build-arg BUILDER=my/python --build-arg BASE=my/python --build-arg PIP_NO_INDEX=1 \
#     --build-arg PIP_FIND_LINKS=wheels -t solar .
ARG BUILDER=python:3.13
ARG BASE=python:3.13-slim

FROM ${BUILDER} AS build
ARG SOLAR_COMPILE
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
WORKDIR /src
COPY . .
# Without a pip of its own: nothing is ever installed in the image that runs.
RUN python -m venv --without-pip /opt/solar \
    && pip --python /opt/solar/bin/python install --no-cache-dir ".[all]" \
    && mkdir /data

FROM ${BASE}
COPY --from=build /opt/solar /opt/solar
COPY --from=build /src/scripts/_entrypoint.py /opt/solar/entrypoint.py
# A new volume takes its owner from here.
COPY --from=build --chown=10001:10001 /data /data
# In a container loopback is nobody's: the gateway listens on every address, and makes a key if it is given none.
ENV PATH=/opt/solar/bin:$PATH SOLAR_HOST=0.0.0.0 SOLAR_DATA_DIR=/data
# It says whether it is compiled, and fails where BASE cannot run what BUILDER made.
RUN ["solar", "--version"]
USER 10001:10001
# The key that it makes is kept here, and a solar.toml that is mounted here is read.
WORKDIR /data
VOLUME /data
EXPOSE 8000
# With another port than PORT's or with a certificate this is to be overridden.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import http.client, os, sys; gateway = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT', '8000')), timeout=2); gateway.request('GET', '/health'); sys.exit(gateway.getresponse().status != 200)"]
# It stops on SIGTERM, and lets what is in flight end first (SOLAR_DRAIN_SECONDS, 30): docker stop --time 35.
ENTRYPOINT ["python", "-I", "/opt/solar/entrypoint.py"]
CMD ["serve"]
