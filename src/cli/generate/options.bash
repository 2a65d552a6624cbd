
# Completes the last of the mount options behind -o; fails where there is no -o.
_ovlmerge_mount_options() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:space:]]}
    local before=${line%"$word"}
    before=${before%"${before##*[![:space:]]}"}
    local glued=
    if [[ $word == -o* ]]; then
        glued=-o
    elif [[ ! $before =~ [[:space:]]-[a-z]*o$ ]]; then
        return 1
    fi
    local list=${word#"$glued"}
    local option=${list##*,}
    local kept=${word%"$option"}
    local found=()
    case $option in
        lowerdir=* | lowerdir+=* | datadir+=* | upperdir=* | workdir=*)
            local path=${option##*[=:]}
            kept=${word%"$path"}
            mapfile -t found < <(compgen -d -- "$path")
            ;;
        *) mapfile -t found < <(compgen -W '@OPTIONS@' -- "$option") ;;
    esac
    # Readline replaces what stands behind the last of its word breaks alone.
    local breaks=${COMP_WORDBREAKS//[!=:]/} untouched=
    [[ -n $breaks ]] && untouched=${word%"${word##*["$breaks"]}"}
    COMPREPLY=()
    local each
    for each in "${found[@]}"; do
        each=$kept$each
        COMPREPLY+=("${each#"$untouched"}")
    done
    # There is none outside of a completion, as in a test.
    compopt -o nospace 2>/dev/null
    return 0
}

_ovlmerge_command() {
    _ovlmerge_mount_options || _ovlmerge "$@"
}

complete -F _ovlmerge_command -o bashdefault -o default ovlmerge
