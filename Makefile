# ollacache: `make help` lists what there is to make.
#
# MODE=asan or MODE=tsan builds the same things with a sanitizer, in a directory of their own. CI=true makes warnings
# errors. Objects are built again when the flags change. Every tests/unit/test_NAME.c is a program of its own; its first
# lines say what it is made of:  /* uses: proxy/base/buf.c proxy/base/words/ */  /* libs: -luv */

MODE ?=
CC := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
PREFIX ?= /usr/local
VERSION := 1.0.0

B := build$(if $(MODE),/$(MODE))
PROGRAM := $(if $(MODE),$(B)/ollacache,ollacache)
FAKE := $(B)/fake_ollama

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
SANITIZE.asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZE.tsan := -fsanitize=thread -fno-omit-frame-pointer
OPTIMISE := $(if $(MODE),-O1,-O2)
CFLAGS ?= -g
PKGS := libmicrohttpd libcurl jansson hiredis libuv icu-uc icu-i18n hunspell nettle libxxhash
# hiredis keeps its TLS in a library of its own from 1.0 on
PKGS += $(shell pkg-config --exists hiredis_ssl 2>/dev/null && echo hiredis_ssl)
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -DOLLACACHE_VERSION='"$(VERSION)"' $(OPTIMISE) $(CFLAGS) $(WARNINGS) \
	$(if $(filter true 1,$(CI)),-Werror) $(SANITIZE.$(MODE)) -pthread -I. $(PKG_CFLAGS)
PKG_CFLAGS := $(filter-out -I/usr/include,$(shell pkg-config --cflags $(PKGS) 2>/dev/null))
LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -llmdb -lstemmer -lhttp_parser -lm -lpthread
ALL_LDFLAGS = $(SANITIZE.$(MODE)) $(LDFLAGS)

SOURCES := $(wildcard proxy/*.c proxy/base/*.c cache/*.c scoring/*.c)
EMBEDDED := $(wildcard proxy/base/words/* proxy/markers.txt scoring/words/*) proxy/dashboard.html
DASHBOARD := $(wildcard proxy/dashboard/*)
FAKE_SOURCES := $(wildcard tests/fake_ollama.c tests/fake/*.c)
UNITS := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))

object = $(patsubst %,$(B)/obj/%.o,$(1))        # of a source or of a file to embed

all: $(PROGRAM)  ## build ./ollacache
	@:

$(PROGRAM): $(call object,$(SOURCES) $(EMBEDDED))
	@echo "link    $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(FAKE): $(call object,$(FAKE_SOURCES))
	@echo "link    $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/obj/%.c.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "cc      $<"
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# A file that is not C becomes bytes in the program, with a NUL after them:
# extern const char _binary_proxy_base_words_en_txt_start[], …_end[];
define embed
	@mkdir -p $(@D)
	@echo "embed   $(1)"
	@name=_binary_$$(printf %s '$(1)' | tr -c 'A-Za-z0-9' _); \
	printf '.section .rodata\n.global %s_start\n.global %s_end\n.balign 16\n%s_start:\n.incbin "%s"\n%s_end:\n.byte 0\n.section .note.GNU-stack,"",%%progbits\n' \
		$$name $$name $$name '$<' $$name >$@.S
	@$(CC) -c -o $@ $@.S
endef
$(B)/obj/%.o: % $(B)/flags
	$(call embed,$<)

# The dashboard is one page for the browser and several files for those who work on it: a line `@include FILE` becomes it.
$(B)/obj/proxy/dashboard.html.o: $(B)/dashboard.html $(B)/flags
	$(call embed,proxy/dashboard.html)
$(B)/dashboard.html: $(DASHBOARD) Makefile
	@awk '$$1 == "@include" { file = "proxy/dashboard/" $$2; while ((getline line < file) > 0) print line; close(file); next } { print }' \
		proxy/dashboard/page.html >$@

# ---- unit tests: each says itself what it is made of ----

head = $(shell head -n 30 $(1) | tr '\n\t' '  ' | sed -n 's|.*/\* $(2): \(.*\)|\1|p' | sed 's|\*/.*||;s|  *\* | |g')
# a folder stands for every file in it
uses = $(foreach file,$(call head,$(1),uses),$(if $(filter %/,$(file)),$(wildcard $(file)*),$(file)))

define unit_rule
$(B)/unit/$(1): $(call object,tests/unit/$(1).c $(call uses,tests/unit/$(1).c))
	@mkdir -p $$(@D)
	@echo "link    $$@"
	@$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ -lcmocka $(call head,tests/unit/$(1).c,libs) -lm -lpthread
endef
# reading the heads takes a moment, so only where it is wanted
ifneq ($(filter unit-programs $(B)/unit/%,$(MAKECMDGOALS)),)
$(foreach unit,$(UNITS),$(eval $(call unit_rule,$(unit))))
endif
unit-programs: $(UNITS:%=$(B)/unit/%)
program: $(PROGRAM) $(if $(FAKE_SOURCES),$(FAKE))
	@:

# ---- what to run ----

deps:
	@./deps.sh deps.txt

# proxy.conf is the documented default and comes with every update; proxy.local.conf is yours and git leaves it alone
run: deps  ## install what is missing, build, and start with proxy.local.conf, or proxy.conf if there is none
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@./ollacache -c $(firstword $(wildcard proxy.local.conf) proxy.conf)

demo:  ## see all of it work without an Ollama: a stand-in answers, and every command is shown
	@./deps.sh deps.txt tests/demo/deps.txt
	@$(MAKE) --no-print-directory -j$$(nproc) program
	@tests/demo/run.sh

test:  ## install what is missing, build, run all tests; the last line is the count
	@tests/run.sh deps lint unit scenario transparency clients browser packaging

unit:  ## unit tests
	@tests/run.sh unit
scenario:  ## whole requests against the fake upstream (varnishtest)
	@tests/run.sh scenario
clients:  ## real client libraries through the proxy
	@tests/run.sh clients
browser:  ## the dashboard in headless Chromium
	@tests/run.sh browser
transparency:  ## recorded requests, with and without the proxy; WIRE=folder for another set of recordings
	@WIRE='$(WIRE)' tests/run.sh transparency
quality:  ## how well near questions are told apart and candidates chosen; DATA=folder for other data
	@DATA='$(DATA)' tests/run.sh quality
packaging:  ## unit, man page, install, dashboard and alert rules, with all the tools that judge them
	@./deps.sh deps.txt tests/deps.txt tests/packaging/deps.txt
	@tests/run.sh packaging
chaos:  ## kill, freeze and fill what it depends on, and see that answers stay whole
	@tests/run.sh chaos
asan:  ## unit and scenario tests under AddressSanitizer and UBSan
	@MODE=asan tests/run.sh unit scenario
tsan:  ## unit and scenario tests under ThreadSanitizer
	@MODE=tsan tests/run.sh unit scenario
fuzz:  ## libFuzzer on every parser, SECONDS_EACH (60) each
	@tests/run.sh fuzz
lint:  ## cppcheck, include layers, banned functions, generated files up to date
	@tests/run.sh lint-all
bench: $(PROGRAM) $(if $(FAKE_SOURCES),$(FAKE))  ## measure against nginx and others in one run
	@OLLACACHE=$(CURDIR)/$(PROGRAM) FAKE_OLLAMA=$(CURDIR)/$(FAKE) tests/bench/run.sh

docs: $(PROGRAM)  ## write proxy.conf, the man page and the tables in docs/reference.md again
	@./$(PROGRAM) --print-config >$(B)/proxy.conf
	@cmp -s $(B)/proxy.conf proxy.conf || cp $(B)/proxy.conf proxy.conf
	@for file in docs/reference.md packaging/ollacache.1; do \
		tests/docs.sh ./$(PROGRAM) $$file >$(B)/docs || exit 1; \
		cmp -s $(B)/docs $$file || cp $(B)/docs $$file; \
	done

# ---- to have it on a machine, or in a container ----

BINDIR := $(PREFIX)/bin
UNITDIR := $(PREFIX)/lib/systemd/system
MANDIR := $(PREFIX)/share/man/man1

install: $(PROGRAM)  ## into PREFIX (/usr/local) and /etc/ollacache, below DESTDIR; a configuration that is there stays
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(MANDIR) $(DESTDIR)/etc/ollacache
	install -m 755 $(PROGRAM) $(DESTDIR)$(BINDIR)/ollacache
	install -m 644 packaging/ollacache.1 $(DESTDIR)$(MANDIR)/ollacache.1
	sed 's|/usr/local/bin/|$(BINDIR)/|' packaging/ollacache.service >$(DESTDIR)$(UNITDIR)/ollacache.service
	chmod 644 $(DESTDIR)$(UNITDIR)/ollacache.service
	test -e $(DESTDIR)/etc/ollacache/proxy.conf || { \
		sed 's|^path = .*|path = /var/lib/ollacache|' proxy.conf >$(DESTDIR)/etc/ollacache/proxy.conf && \
		chmod 644 $(DESTDIR)/etc/ollacache/proxy.conf; }

uninstall:  ## what install put there, but for the configuration and the answers
	rm -f $(DESTDIR)$(BINDIR)/ollacache $(DESTDIR)$(UNITDIR)/ollacache.service $(DESTDIR)$(MANDIR)/ollacache.1

image:  ## the container's image
	docker build -t ollacache .

verify-docker:  ## with TOOL=verify-dockerfile.sh: build, run and probe the image and compose.yaml, with and without Redis
	COMPOSE=1 COMPOSE_FILE=compose.yaml:tests/docker/compose.yaml $(TOOL) . tests/docker/probe.sh
	COMPOSE=1 COMPOSE_PROFILES=redis OLLACACHE_STORE=redis COMPOSE_FILE=compose.yaml:tests/docker/compose.yaml \
		$(TOOL) . tests/docker/probe.sh

clean:  ## remove what was built
	rm -rf build ollacache

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r t h; do printf '%-14s %s\n' "$$t" "$$h"; done

# ---- flags: a change of them builds everything again ----

FLAGS = $(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))
ifneq ($(filter-out clean help deps demo,$(or $(MAKECMDGOALS),all)),)
$(shell mkdir -p $(B); echo '$(FLAGS)' | cmp -s - $(B)/flags || echo '$(FLAGS)' >$(B)/flags)
endif

.PHONY: all deps run demo test unit scenario clients browser transparency quality chaos asan tsan fuzz lint bench docs install \
	uninstall image verify-docker packaging clean help unit-programs program
.DELETE_ON_ERROR:
.SECONDARY:

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
