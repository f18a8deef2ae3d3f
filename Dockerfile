# ollacache in a container: listens on 11434 on every address of the container, asks http://ollama:11434, keeps its
# answers in the volume /var/lib/ollacache. Every option can be set by the environment (OLLACACHE_SECTION_KEY), by
# arguments (--section.key=value) or by a file mounted over /etc/ollacache/proxy.conf.

FROM debian:bookworm-slim AS build
WORKDIR /src
COPY deps.sh deps.txt ./
RUN ./deps.sh deps.txt
COPY . .
RUN make -j"$(nproc)" CFLAGS= && strip ollacache

FROM debian:bookworm-slim
# The libraries the program is linked with, the dictionaries it reads, and the roots for https upstreams.
RUN apt-get -q update && \
	apt-get -qy install --no-install-recommends libmicrohttpd12 libcurl4 libhttp-parser2.9 libjansson4 libhiredis0.14 libuv1 liblmdb0 \
		libicu72 libstemmer0d libhunspell-1.7-0 libnettle8 libxxhash0 hunspell-uk hunspell-en-us ca-certificates && \
	rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* && \
	useradd --system --uid 10001 --home-dir /var/lib/ollacache --create-home ollacache
COPY --from=build /src/ollacache /usr/local/bin/
COPY packaging/container.sh /usr/local/bin/ollacache-container
COPY proxy.conf /etc/ollacache/
COPY LICENSE /usr/share/doc/ollacache/
ENV OLLACACHE_SERVER_LISTEN=0.0.0.0:11434 \
	OLLACACHE_UPSTREAM_URL=http://ollama:11434 \
	OLLACACHE_CACHE_PATH=/var/lib/ollacache
USER ollacache
VOLUME /var/lib/ollacache
EXPOSE 11434
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 \
	CMD ["ollacache", "-c", "/etc/ollacache/proxy.conf", "--health"]
ENTRYPOINT ["ollacache-container"]
