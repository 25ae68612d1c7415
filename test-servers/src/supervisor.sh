# Owns one server and its folder; obeys one command a line, answers each with one line.
# $1 is the user that the server runs as (empty: this one), $2 the signal that ends it for good.
folder=$(mktemp -d "${TMPDIR:-/tmp}/test-server-XXXXXXXX") || exit 1
[ -z "$1" ] || chown "$1" "$folder" || exit 1
final=$2
pid=
exec 2>>"$folder/server.log"
echo "$folder"
while IFS= read -r command; do
    case $command in
    start) sh "$folder/start" </dev/null >>"$folder/server.log" & pid=$!; echo "$pid" ;;
    wait) wait "$pid"; pid=; echo ended ;;
    *) kill "-$command" "$pid"; echo "$?" ;;
    esac
done
if [ -n "$pid" ]; then
    kill "-$final" "$pid"
    kill -CONT "$pid"
    wait "$pid"
fi
rm -rf "$folder"
