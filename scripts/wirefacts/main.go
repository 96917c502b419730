// Prints the facts of the wire of Kubernetes' API types: for every type that the served kinds reach, a line with its name and
// its fields, each NAME=NUMBER:TYPE and flags. kubelite/schema/facts.txt is its output; scripts/wirefacts/run makes it.
// Where Go's name of the field's type isn't plain from that, it follows after @; errors of decoding tell it.
//
// TYPE is string, int, bool, double, bytes, a name of another line, or a special one (Quantity, Time, ...). Flags:
// ? a pointer, so that zero differs from absent; ! written even when it is zero; * a list; % a map from strings;
// & a list wrapped in a message of its own; ^ its fields stand in the parent's JSON. TypeMeta alone says that the type has
// an apiVersion and a kind.
package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	flowcontrol "k8s.io/api/flowcontrol/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	resource "k8s.io/api/resource/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var special = map[string]string{
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                                         "Quantity",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                                             "Time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                                        "MicroTime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                                         "Duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                                         "FieldsV1",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                                       "IntOrString",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                                          "RawExtension",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                         "JSON",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":        "JSONSchemaPropsOrBool",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":       "JSONSchemaPropsOrArray",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "JSONSchemaPropsOrStringArray",
}

var lines = map[string]string{}

func full(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

func short(t reflect.Type) string {
	parts := strings.Split(t.PkgPath(), "/")
	return parts[len(parts)-2] + "." + parts[len(parts)-1] + "." + t.Name()
}

func isMessage(t reflect.Type) bool {
	_, ok := reflect.PointerTo(t).MethodByName("Marshal")
	return ok
}

func typeOf(t reflect.Type) string {
	if name, ok := special[full(t)]; ok {
		return name
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64:
		if t.Kind() == reflect.Int32 {
			return "int32"
		}
		return "int64"
	case reflect.Float64:
		return "double"
	case reflect.Struct:
		visit(t)
		return short(t)
	}
	panic(fmt.Sprint("no type for ", t))
}

func describe(t reflect.Type) (string, string) {
	switch {
	case t.Kind() == reflect.Pointer:
		name, flags := describe(t.Elem())
		return name, "?" + flags
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "bytes", ""
	case t.Kind() == reflect.Slice && isMessage(t):
		return typeOf(t.Elem()), "&"
	case t.Kind() == reflect.Slice:
		return typeOf(t.Elem()), "*"
	case t.Kind() == reflect.Map:
		if t.Elem().Kind() == reflect.Slice && t.Elem().Elem().Kind() != reflect.Uint8 {
			return typeOf(t.Elem().Elem()), "%&"
		}
		name, flags := describe(t.Elem())
		return name, "%" + flags
	}
	return typeOf(t), ""
}

// What Go prints for the type of a field of which only the kubelite name and the flags are known.
func plain(name, flags string) string {
	switch name {
	case "double":
		name = "float64"
	case "bytes":
		name = "[]uint8"
	case "Quantity":
		name = "resource.Quantity"
	case "IntOrString":
		name = "intstr.IntOrString"
	case "RawExtension":
		name = "runtime.RawExtension"
	default:
		if special := strings.ToUpper(name[:1]) == name[:1]; special {
			name = "v1." + name
		} else if parts := strings.Split(name, "."); len(parts) == 3 {
			name = parts[1] + "." + parts[2]
		}
	}
	if strings.Contains(flags, "%") {
		return "map[string]" + strings.Repeat("[]", strings.Count(flags, "&")) + name
	}
	return strings.Repeat("[]", strings.Count(flags, "*")+strings.Count(flags, "&")) + name
}

func visit(t reflect.Type) {
	if _, ok := lines[short(t)]; ok {
		return
	}
	lines[short(t)] = ""
	var fields []string
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		tag, jsonTag := f.Tag.Get("protobuf"), f.Tag.Get("json")
		if tag == "" || jsonTag == "-" {
			if f.Name == "TypeMeta" {
				fields = append(fields, f.Name)
			} else {
				fmt.Fprintln(os.Stderr, "left out:", short(t), f.Name)
			}
			continue
		}
		number := strings.Split(tag, ",")[1]
		options := strings.Split(jsonTag, ",")
		name, flags := describe(f.Type)
		jsonName, omit, inline := options[0], false, false
		for _, option := range options[1:] {
			omit = omit || option == "omitempty" || option == "omitzero"
			inline = inline || option == "inline"
		}
		if inline {
			flags += "^"
			jsonName = f.Name
		} else if !omit || (f.Type.Kind() == reflect.Struct && !strings.Contains(jsonTag, "omitzero")) {
			flags += "!"
		}
		described := jsonName + "=" + number + ":" + name + flags
		if printed := strings.TrimLeft(f.Type.String(), "*"); printed != plain(name, flags) {
			described += "@" + printed
		}
		fields = append(fields, described)
	}
	lines[short(t)] = strings.Join(append([]string{short(t)}, fields...), " ")
}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistration.AddToScheme, apps.AddToScheme, authentication.AddToScheme, authorization.AddToScheme, autoscalingv1.AddToScheme,
		autoscalingv2.AddToScheme, batch.AddToScheme, certificates.AddToScheme, coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme,
		events.AddToScheme, flowcontrol.AddToScheme, networking.AddToScheme, node.AddToScheme, policy.AddToScheme, rbac.AddToScheme,
		resource.AddToScheme, scheduling.AddToScheme, storage.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	for gvk, t := range scheme.AllKnownTypes() {
		if strings.HasSuffix(gvk.Kind, "List") || strings.HasSuffix(gvk.Kind, "Options") || gvk.Kind == "WatchEvent" {
			continue
		}
		visit(t)
	}
	visit(reflect.TypeOf(meta.DeleteOptions{}))
	visit(reflect.TypeOf(meta.Status{}))
	visit(reflect.TypeOf(meta.ListMeta{}))
	visit(reflect.TypeOf(meta.PartialObjectMetadata{}))
	var names []string
	for name := range lines {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Println(lines[name])
	}
}
