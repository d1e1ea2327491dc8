#!/bin/sh
# Plays `secateur run-attempt`. What it does is the id of the (local) model in its work; the artifact of a job, when that is
# the model, succeeds if its files are there.
read -r work
field() { printf '%s' "$work" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
scratch=$(field scratch)
here=$(dirname "$0")

say() { printf '%s\n' "$1"; }
failed() { say "{\"type\":\"failed\",\"code\":\"$1\",\"message\":\"as asked\",\"phase\":\"resolving\",\"retryable\":$2}"; }
prune() {
    mkdir -p "$scratch/artifact"
    printf '0123456789' > "$scratch/artifact/model.safetensors"
    cp "$here/manifest.json" "$scratch/artifact/secateur.json"
    say '{"type":"phase","phase":"pruning"}'
    say '{"type":"progress","name":"blocks","finished":1,"total":2,"unit":"blocks"}'
    say 'this is no message'
    say "{\"type\":\"succeeded\",\"report\":{\"prune\":$(tr -d '\n' < "$here/manifest.json")}}"
}
evaluate() {
    mkdir -p "$scratch/artifact"
    cp "$here/evaluation.json" "$scratch/artifact/evaluation.json"
    printf '{"task":"boolq","doc_id":0}\n' > "$scratch/artifact/samples.jsonl"
    say '{"type":"phase","phase":"evaluating"}'
    say "{\"type\":\"succeeded\",\"report\":{\"evaluate\":$(tr -d '\n' < "$here/evaluation.json")}}"
}
succeed() {
    case $work in
        *'"spec":{"type":"evaluate"'*) evaluate ;;
        *) prune ;;
    esac
}

model=$(printf '%s' "$work" | sed -n 's/.*"model":{"source":"local","id":"\([^"]*\)".*/\1/p')
dense=$(printf '%s' "$work" | sed -n 's/.*"job_artifacts":{"job_[0-9a-f]*":"\([^"]*\)".*/\1/p')
if [ -n "$dense" ] && [ -s "$dense/model.safetensors" ]; then model=succeed; fi

case $model in
    succeed) succeed ;;
    crash)
        say '{"type":"phase","phase":"calibrating"}'
        printf 'about to\000 fall over %s/it\n' "$scratch" >&2
        kill -9 $$ ;;
    silent) exit 3 ;;
    crash-once)
        if [ -e "$scratch/tried" ]; then
            say '{"type":"resumed","block":1,"blocks":2}'
            succeed
        else
            touch "$scratch/tried"; kill -9 $$
        fi ;;
    hang-once)
        if [ -e "$scratch/tried" ]; then succeed; else
            touch "$scratch/tried"
            say '{"type":"phase","phase":"pruning"}'
            cat > /dev/null
        fi ;;
    hang)
        # A process of its own that the worker never heard of, and that does not listen to its standard input.
        sleep 1000 < /dev/null &
        printf '%s' $! > "$scratch/grandchild"
        say '{"type":"phase","phase":"pruning"}'
        say '{"type":"progress","name":"blocks","finished":1,"total":2,"unit":"blocks"}'
        wait ;;
    pause)
        if [ -e "$scratch/tried" ]; then succeed; else
            touch "$scratch/tried"
            say '{"type":"phase","phase":"pruning"}'
            read -r asked
            if [ "$asked" = pause ]; then touch "$scratch/asked"; say '{"type":"paused"}'; fi
        fi ;;
    resolve)
        say '{"type":"phase","phase":"resolving"}'
        cat > /dev/null ;;
    noisy)
        # No UTF-8, then more than a pipe holds.
        printf '\377\n' >&2
        i=0
        while [ "$i" -lt 2000 ]; do
            printf '%80s\n' "$i" >&2
            i=$((i + 1))
        done
        succeed ;;
    chatty)
        # More than a pipe holds, once it may.
        say '{"type":"phase","phase":"pruning"}'
        while [ ! -e "$scratch/talk" ]; do sleep 0.01; done
        i=0
        while [ "$i" -lt 2000 ]; do
            say '{"type":"progress","name":"blocks","finished":1,"total":2,"unit":"blocks"}'
            i=$((i + 1))
        done
        touch "$scratch/said"
        succeed ;;
    meet)
        # Until the workers `one` and `two` have both taken a job.
        touch "$here/met"
        until [ -e "$here/../one/met" ] && [ -e "$here/../two/met" ]; do sleep 0.01; done
        failed model_not_found false ;;
    full) failed insufficient_disk true ;;
    liar)
        mkdir -p "$scratch/artifact"
        case $work in
            *'"spec":{"type":"evaluate"'*)
                say "{\"type\":\"succeeded\",\"report\":{\"evaluate\":$(tr -d '\n' < "$here/evaluation.json")}}" ;;
            *)
                say "{\"type\":\"succeeded\",\"report\":{\"prune\":$(tr -d '\n' < "$here/manifest.json")}}" ;;
        esac ;;
    confused) evaluate ;;
    *) failed model_not_found false ;;
esac
