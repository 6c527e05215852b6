// Package rootkey is how the process gets its own key, and how secrets are
// sealed under it before they are stored.
package rootkey
