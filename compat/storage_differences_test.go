package compat_test

import "regexp"

// difference is one between Ebb's Blob service and Azurite's, in the words that
// compare has for it. Azurite is a peer and not the truth: where it departs from what
// Azure's reference says, Ebb keeps to the reference.
type difference struct {
	step, line *regexp.Regexp
	reason     string
}

func but(step, line, reason string) difference {
	return difference{regexp.MustCompile("^(?:" + step + ")$"), regexp.MustCompile("^(?:" + line + ")$"), reason}
}

var storageDifferences = []difference{
	but(`.*`, `x-ms-version: ebb "2021-08-06", azurite "(2.*)?"`, "Ebb answers with the version that was asked for, as Azure does; Azurite with its own, and in errors with none"),
	but(`.*`, `x-ms-client-request-id: ebb "mine", azurite ""`, "Azurite's errors do not repeat the client's id"),
	but(`.*`, `x-ms-blob-content-md5: ebb "", azurite ".*"`, "Azure gives it where only a part is read; a whole blob has Content-MD5"),
	but(`its metadata.*`, `x-ms-lease-(state|status): ebb "", azurite ".*"`, "Get Container Metadata gives metadata, by Azure's reference"),
	but(`metadata`, `.*`, "Azurite takes Get Blob Metadata by GET for Get Blob"),
	but(`.* if .*`, `(ETag|Last-Modified): ebb "there", azurite ""`, "a 304 says which state of the blob it is about (RFC 9110, 15.4.5)"),
	but(`read if .*`, `Content-Type: ebb "", azurite "application/xml"`, "a 304 has no content, and no type of it"),
	but(`range: from behind the end`, `ebb 416 InvalidRange, azurite 206 `, "Azure answers 416, which clients wait for at the end of a blob"),
	but(`range: of another unit`, `ebb 200 , azurite 206 `, "a range of an unknown unit is none (RFC 9110, 14.2)"),
	but(`put without a type|put a type that is none|stage without an id|commit no XML|blocks of no type|list maxresults=.*|containers, too few`, `ebb 400 \w+, azurite 400 `, "Azurite's check of parameters gives no code"),
	but(`stage an empty block`, `ebb 400 InvalidHeaderValue, azurite 201 `, "Azure takes no block without content"),
	but(`stage another, with its MD5`, `Content-MD5: ebb ".+", azurite ""`, "Azure repeats the MD5 of a block that came with one"),
	but(`the blocks staged`, `(ETag|Last-Modified): ebb "", azurite "there"`, "a blob that is not there yet has neither"),
	but(`the blocks staged`, `body: only azurite .*MDAwMw==.*`, "the empty block, which Ebb did not take"),
	but(`commit.*`, `Content-MD5: ebb "", azurite ".+"|x-ms-content-crc64: ebb ".+", azurite ""`, "of versions from 2019-02-02 on Azure gives a CRC64 of the list that it received"),
	but(`the blob (of blocks|in another order|of nothing)`, `Content-MD5: ebb "", azurite ".+"`, "Azure keeps an MD5 of what was put whole, and of blocks only what the client says"),
	but(`get without metadata|get (the|that) copy`, `Content-MD5: ebb "", azurite ".+"`, "Set Blob Properties cleared it, in Azurite too, which then sums what it sends"),
	but(`get what was appended`, `Content-MD5: ebb "", azurite ".+"`, "Azurite's is that of the empty blob that it was once"),
	but(`copy if the source is another`, `ebb 412 SourceConditionNotMet, azurite 412 ConditionNotMet`, "Azure has a code of its own for the source"),
	but(`list .*|(account )?sas: list`, `body: .*only azurite /EnumerationResults/Blobs/Blob/Properties/AccessTier.*`, "Ebb has no access tiers, and Azurite's says that blobs are encrypted"),
	but(`list .*metadata.*|containers with metadata`, `body: .*Metadata/N=.*`, "Ebb's names of metadata are lower-case"),
	but(`list prefix=nobody|containers.*|account sas: containers`, `body: only azurite /EnumerationResults/MaxResults=5000`, "Azure repeats the number that the client gave"),
	but(`list include=nonsense.*`, `ebb 200 , azurite 400 `, "Ebb passes by what it does not know to include, so that newer clients can list"),
	but(`anonymous.*`, `ebb 401 NoAuthenticationInformation, azurite 403 AuthorizationFailure`, "Azure asks for a credential, and clients wait for that with their token"),
	but(`a broken Authorization`, `ebb 400 InvalidAuthenticationInfo, azurite 403 AuthorizationFailure`, "by Azure's list of codes"),
	but(`.*`, `ebb 403 AuthenticationFailed, azurite 403 AuthorizationFailure`, "a signature that does not hold is AuthenticationFailed in Azure"),
	but(`sas: of another address`, `ebb 403 AuthorizationSourceIPMismatch, azurite 200 `, "Azurite does not look at addresses"),
}

// explained finds the difference that a line is an example of; -1 if there is none.
func explainedDifference(step, line string) int {
	for i, d := range storageDifferences {
		if d.step.MatchString(step) && d.line.MatchString(line) {
			return i
		}
	}
	return -1
}
