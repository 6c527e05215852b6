package rootkey

// CheckFile is what Load wants of a file, for the tests of owners: changing an
// owner takes privileges.
var CheckFile = checkFile
