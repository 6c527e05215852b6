package policy_test

import (
	"testing"

	"kastellan.dev/internal/policy"
)

// circumstances are the condition keys of the requests of these tests.
var circumstances = values{
	"a:text":                           {"Blue"},
	"a:empty":                          {""},
	"a:none":                           {},
	"a:number":                         {"7"},
	"a:fraction":                       {"7.5"},
	"a:time":                           {"2024-02-29T12:00:00Z"},
	"a:epoch":                          {"1709208000"}, // the same moment
	"a:true":                           {"true"},
	"a:false":                          {"False"},
	"a:bytes":                          {"aGVsbG8="},
	"a:v4":                             {"203.0.113.7"},
	"a:mapped":                         {"::ffff:203.0.113.7"},
	"a:v6":                             {"2001:db8::7"},
	"a:arn":                            {"arn:aws:s3:eu-central-1:111122223333:bucket/a:b"},
	"a:list":                           {"red", "green"},
	"a:one":                            {"red"},
	"kms:encryptioncontext:department": {"HR"},
}

func TestConditions(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]bool{ // the condition and whether it holds, by what is tested
		"strings": {
			`"StringEquals":{"a:text":"Blue"}`:              true,
			`"StringEquals":{"a:text":"blue"}`:              false,
			`"StringEquals":{"a:text":"B*"}`:                false,
			`"StringEquals":{"a:text":["Red","Blue"]}`:      true,
			`"StringEquals":{"a:text":[]}`:                  false,
			`"StringEquals":{"a:empty":""}`:                 true,
			`"StringNotEquals":{"a:text":["Red","Blue"]}`:   false,
			`"StringNotEquals":{"a:text":["Red","Green"]}`:  true,
			`"StringNotEquals":{"a:text":[]}`:               true,
			`"StringEqualsIgnoreCase":{"a:text":"bLUE"}`:    true,
			`"StringEqualsIgnoreCase":{"a:text":"b*"}`:      false,
			`"StringNotEqualsIgnoreCase":{"a:text":"bLUE"}`: false,
			`"StringNotEqualsIgnoreCase":{"a:text":"red"}`:  true,
			`"StringLike":{"a:text":"B?u*"}`:                true,
			`"StringLike":{"a:text":"b*"}`:                  false,
			`"StringLike":{"a:empty":"*"}`:                  true,
			`"StringLike":{"a:empty":"?"}`:                  false,
			`"StringNotLike":{"a:text":"B*"}`:               false,
			`"StringNotLike":{"a:text":["R*","G*"]}`:        true,
			`"StringEquals":{"a:number":7}`:                 true,
			`"StringEquals":{"a:true":true}`:                true,
		},
		"names": {
			`"stringequals":{"A:TEXT":"Blue"}`:                         true,
			`"STRINGLIKEIFEXISTS":{"A:Missing":"Blue"}`:                true,
			`"foranyvalue:StringEquals":{"A:List":"red"}`:              true,
			`"StringEquals":{"kms:EncryptionContext:Department":"HR"}`: true,
			`"StringEquals":{"kms:EncryptionContext:Department":"hr"}`: false,
		},
		"numbers": {
			`"NumericEquals":{"a:number":"7"}`:             true,
			`"NumericEquals":{"a:number":7.0}`:             true,
			`"NumericEquals":{"a:number":"+7e0"}`:          true,
			`"NumericEquals":{"a:fraction":7.5}`:           true,
			`"NumericEquals":{"a:number":[1,7]}`:           true,
			`"NumericNotEquals":{"a:number":[1,7]}`:        false,
			`"NumericNotEquals":{"a:number":8}`:            true,
			`"NumericLessThan":{"a:number":7}`:             false,
			`"NumericLessThan":{"a:number":10}`:            true,
			`"NumericLessThanEquals":{"a:number":7}`:       true,
			`"NumericLessThanEquals":{"a:number":6.9}`:     false,
			`"NumericGreaterThan":{"a:number":-8}`:         true,
			`"NumericGreaterThan":{"a:number":7}`:          false,
			`"NumericGreaterThanEquals":{"a:number":7}`:    true,
			`"NumericGreaterThanEquals":{"a:number":7.01}`: false,
			`"NumericEquals":{"a:text":7}`:                 false,
			`"NumericNotEquals":{"a:text":7}`:              true,
			`"NumericLessThan":{"a:text":7}`:               false,
			`"NumericLessThan":{"a:empty":7}`:              false,
		},
		"dates": {
			`"DateEquals":{"a:time":"2024-02-29T12:00:00Z"}`:             true,
			`"DateEquals":{"a:time":"2024-02-29T13:00:00+01:00"}`:        true,
			`"DateEquals":{"a:time":"2024-02-29T12:00:00.000Z"}`:         true,
			`"DateEquals":{"a:time":"2024-02-29T12:00Z"}`:                true,
			`"DateEquals":{"a:time":1709208000}`:                         true,
			`"DateEquals":{"a:epoch":"2024-02-29T12:00:00Z"}`:            true,
			`"DateNotEquals":{"a:epoch":"2024-02-29T12:00:00Z"}`:         false,
			`"DateNotEquals":{"a:epoch":"2024-02-29"}`:                   true,
			`"DateLessThan":{"a:time":"2024-03"}`:                        true,
			`"DateLessThan":{"a:time":"2024"}`:                           false,
			`"DateLessThan":{"a:time":"2025"}`:                           true,
			`"DateLessThanEquals":{"a:time":"2024-02-29T12:00:00Z"}`:     true,
			`"DateLessThanEquals":{"a:time":"2024-02-29T11:59:59.999Z"}`: false,
			`"DateGreaterThan":{"a:time":"2024-02-29"}`:                  true,
			`"DateGreaterThan":{"a:time":"2024-02-29T12:00:00Z"}`:        false,
			`"DateGreaterThanEquals":{"a:epoch":"1709208000.0"}`:         true,
			`"DateGreaterThanEquals":{"a:epoch":"1709208000.5"}`:         false,
			`"DateEquals":{"a:text":"2024"}`:                             false,
			`"DateNotEquals":{"a:text":"2024"}`:                          true,
			`"NumericLessThanEquals":{"a:epoch":1709208000}`:             true,
		},
		"truth": {
			`"Bool":{"a:true":"true"}`:           true,
			`"Bool":{"a:true":true}`:             true,
			`"Bool":{"a:true":"TRUE"}`:           true,
			`"Bool":{"a:true":"false"}`:          false,
			`"Bool":{"a:false":false}`:           true,
			`"Bool":{"a:true":["false","true"]}`: true,
			`"Bool":{"a:text":"false"}`:          false,
			`"Bool":{"a:missing":"false"}`:       false,
		},
		"bytes": {
			`"BinaryEquals":{"a:bytes":"aGVsbG8="}`: true,
			`"BinaryEquals":{"a:bytes":"aGVsbG9="}`: true, // the same but for bits that count for nothing
			`"BinaryEquals":{"a:bytes":"aGVsbG8h"}`: false,
			`"BinaryEquals":{"a:text":"aGVsbG8="}`:  false,
		},
		"addresses": {
			`"IpAddress":{"a:v4":"203.0.113.0/24"}`:           true,
			`"IpAddress":{"a:v4":"203.0.113.9/24"}`:           true,
			`"IpAddress":{"a:v4":"203.0.113.7"}`:              true,
			`"IpAddress":{"a:v4":"203.0.113.8"}`:              false,
			`"IpAddress":{"a:v4":"203.0.114.0/24"}`:           false,
			`"IpAddress":{"a:v4":["10.0.0.0/8","0.0.0.0/0"]}`: true,
			`"IpAddress":{"a:v4":"::/0"}`:                     false,
			`"IpAddress":{"a:v4":"::ffff:203.0.113.0/120"}`:   true,
			`"IpAddress":{"a:mapped":"203.0.113.0/24"}`:       true,
			`"IpAddress":{"a:v6":"2001:db8::/32"}`:            true,
			`"IpAddress":{"a:v6":"2001:DB8:0:0:0:0:0:7"}`:     true,
			`"IpAddress":{"a:v6":"0.0.0.0/0"}`:                false,
			`"IpAddress":{"a:text":"0.0.0.0/0"}`:              false,
			`"NotIpAddress":{"a:v4":"203.0.113.0/24"}`:        false,
			`"NotIpAddress":{"a:v4":["10.0.0.0/8","::/0"]}`:   true,
			`"NotIpAddress":{"a:text":"10.0.0.0/8"}`:          true,
		},
		"ARNs": {
			`"ArnEquals":{"a:arn":"arn:aws:s3:eu-central-1:111122223333:bucket/a:b"}`: true,
			`"ArnEquals":{"a:arn":"arn:aws:s3:*:111122223333:bucket/*"}`:              true,
			`"ArnLike":{"a:arn":"arn:aws:s3:*:*:bucket/?:b"}`:                         true,
			`"ArnLike":{"a:arn":"arn:*:s3:*:*:*"}`:                                    true,
			`"ArnLike":{"a:arn":"*:*:*:*:*:*"}`:                                       true,
			`"ArnLike":{"a:arn":"*"}`:                                                 true,
			`"ArnLike":{"a:arn":"arn:aws:s3:*:bucket/a:b"}`:                           false,
			`"ArnLike":{"a:arn":"arn:aws:s3*:*:*:bucket/a"}`:                          false,
			`"ArnLike":{"a:arn":"arn:aws:s3:*"}`:                                      false,
			`"ArnLike":{"a:arn":"arn:aws:S3:*:*:*"}`:                                  false,
			`"ArnLike":{"a:text":"*"}`:                                                false,
			`"ArnNotEquals":{"a:arn":"arn:aws:s3:*:*:*"}`:                             false,
			`"ArnNotLike":{"a:arn":["arn:aws:sqs:*:*:*","arn:aws:sns:*:*:*"]}`:        true,
			`"ArnNotLike":{"a:text":"*"}`:                                             true,
		},
		"null": {
			`"Null":{"a:missing":"true"}`:           true,
			`"Null":{"a:missing":false}`:            false,
			`"Null":{"a:text":true}`:                false,
			`"Null":{"a:text":"False"}`:             true,
			`"Null":{"a:empty":"false"}`:            true,
			`"Null":{"a:none":"true"}`:              true,
			`"Null":{"a:missing":["true","false"]}`: true,
			`"Null":{"a:missing":[]}`:               false,
		},
		"keys that are missing": {
			`"StringEquals":{"a:missing":"x"}`:            false,
			`"StringLike":{"a:missing":"*"}`:              false,
			`"StringNotEquals":{"a:missing":"x"}`:         true,
			`"StringNotLike":{"a:missing":"*"}`:           true,
			`"NumericNotEquals":{"a:missing":1}`:          true,
			`"DateNotEquals":{"a:missing":"2024"}`:        true,
			`"NotIpAddress":{"a:missing":"0.0.0.0/0"}`:    true,
			`"ArnNotLike":{"a:missing":"*"}`:              true,
			`"IpAddress":{"a:missing":"0.0.0.0/0"}`:       false,
			`"StringEqualsIfExists":{"a:missing":"x"}`:    true,
			`"StringEqualsIfExists":{"a:text":"x"}`:       false,
			`"StringEqualsIfExists":{"a:text":"Blue"}`:    true,
			`"StringNotEqualsIfExists":{"a:missing":"x"}`: true,
			`"StringNotEqualsIfExists":{"a:text":"Blue"}`: false,
			`"BoolIfExists":{"a:missing":"true"}`:         true,
			`"NumericLessThanIfExists":{"a:number":1}`:    false,
			`"StringEquals":{"a:none":"x"}`:               false,
			`"StringNotEquals":{"a:none":"x"}`:            true,
			`"StringEqualsIfExists":{"a:none":"x"}`:       true,
		},
		"sets": {
			`"ForAnyValue:StringEquals":{"a:list":["green","blue"]}`:        true,
			`"ForAnyValue:StringEquals":{"a:list":"blue"}`:                  false,
			`"ForAnyValue:StringEquals":{"a:missing":"blue"}`:               false,
			`"ForAnyValue:StringEquals":{"a:none":"blue"}`:                  false,
			`"ForAnyValue:StringNotEquals":{"a:list":"red"}`:                true,
			`"ForAnyValue:StringNotEquals":{"a:list":["red","green"]}`:      false,
			`"ForAnyValue:StringNotEquals":{"a:missing":"red"}`:             false,
			`"ForAnyValue:StringEqualsIfExists":{"a:missing":"red"}`:        true,
			`"ForAllValues:StringEquals":{"a:list":["green","red","blue"]}`: true,
			`"ForAllValues:StringEquals":{"a:list":"red"}`:                  false,
			`"ForAllValues:StringEquals":{"a:missing":"red"}`:               true,
			`"ForAllValues:StringEquals":{"a:none":"red"}`:                  true,
			`"ForAllValues:StringNotEquals":{"a:list":["blue","red"]}`:      false,
			`"ForAllValues:StringNotEquals":{"a:list":["blue","black"]}`:    true,
			`"ForAllValues:StringNotEquals":{"a:missing":"red"}`:            true,
			`"ForAllValues:StringLike":{"a:list":"*e*"}`:                    true,
			`"ForAllValues:StringLikeIfExists":{"a:list":"r*"}`:             false,
			`"ForAnyValue:StringLike":{"a:one":"r*"}`:                       true,
			`"ForAnyValue:IpAddress":{"a:v4":"203.0.113.0/24"}`:             true,
			`"ForAllValues:Bool":{"a:true":"false"}`:                        false,
			`"StringEquals":{"a:list":"green"}`:                             true,
			`"StringNotEquals":{"a:list":"green"}`:                          false,
			`"StringNotEquals":{"a:list":"blue"}`:                           true,
		},
		"several": {
			``:                  true,
			`"StringEquals":{}`: true,
			`"StringEquals":{"a:text":"Blue","a:one":"red"}`:                   true,
			`"StringEquals":{"a:text":"Blue","a:one":"green"}`:                 false,
			`"StringEquals":{"a:text":"Blue"},"NumericEquals":{"a:number":7}`:  true,
			`"StringEquals":{"a:text":"Blue"},"NumericEquals":{"a:number":8}`:  false,
			`"StringEquals":{"a:text":"Blue"},"stringEquals":{"a:text":"Red"}`: false,
			`"StringEquals":{"a:text":"Blue","A:Text":"Red"}`:                  false,
		},
	}
	for about, conditions := range tests {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			for condition, want := range conditions {
				d := must(t, policy.ParseIdentity, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+condition+`}}`)
				if got := identityDecision(d, "kms:Encrypt", keyARN, circumstances) == policy.Allow; got != want {
					t.Errorf("%s: got %v, want %v", condition, got, want)
				}
			}
		})
	}
}

func TestARequestWithoutKeysHasNoneOfThem(t *testing.T) {
	t.Parallel()
	for condition, want := range map[string]bool{
		`"StringEquals":{"a:b":"x"}`:         false,
		`"StringNotEquals":{"a:b":"x"}`:      true,
		`"Null":{"a:b":"true"}`:              true,
		`"StringLike":{"a:b":"${aws:user}"}`: false,
	} {
		d := must(t, policy.ParseIdentity, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+condition+`}}`)
		if got := identityDecision(d, "kms:Encrypt", keyARN, nil) == policy.Allow; got != want {
			t.Errorf("%s: got %v, want %v", condition, got, want)
		}
	}
}

func TestConditionsOfADenyAndOfAnAllow(t *testing.T) {
	t.Parallel()
	const mfa = `"Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}`
	d := must(t, policy.ParseIdentity, allowAll+`,{"Effect":"Deny","Action":"*","Resource":"*",`+mfa+`}`)
	for name, test := range map[string]struct {
		v    policy.Values
		want policy.Decision
	}{
		"denied without a second factor":         {values{"aws:multifactorauthpresent": {"false"}}, policy.ExplicitDeny},
		"denied where nothing is known about it": {nil, policy.ExplicitDeny},
		"allowed with it":                        {values{"aws:multifactorauthpresent": {"true"}}, policy.Allow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := identityDecision(d, "kms:Encrypt", keyARN, test.v); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
