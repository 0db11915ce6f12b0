//! The texts of the installation of the app on a shop.

use super::catalogue::catalogue;

catalogue! {
    title_shop_not_linked()
        en "Your shop was not linked"
        de "Ihr Shop wurde nicht verknüpft"
        fr "Votre boutique n’a pas été associée"
        es "Su tienda no se ha vinculado"
        pt "Sua loja não foi vinculada"

    no_shop_named()
        en "The address does not name a shop. A shop's name looks like some-shop.myshopify.com."
        de "Die Adresse nennt keinen Shop. Der Name eines Shops sieht so aus: some-shop.myshopify.com."
        fr "L’adresse n’indique aucune boutique. Le nom d’une boutique ressemble à some-shop.myshopify.com."
        es "La dirección no indica ninguna tienda. El nombre de una tienda tiene la forma some-shop.myshopify.com."
        pt "O endereço não indica uma loja. O nome de uma loja é parecido com some-shop.myshopify.com."

    not_signed_by_shopify()
        en "The address was not made by Shopify, or is too old. Open the app again in the shop's admin."
        de "Die Adresse stammt nicht von Shopify oder ist zu alt. Öffnen Sie die App erneut im Adminbereich des Shops."
        fr "L’adresse ne vient pas de Shopify ou est trop ancienne. Rouvrez l’application dans l’interface \
            administrateur de la boutique."
        es "La dirección no la creó Shopify o es demasiado antigua. Vuelva a abrir la aplicación en el panel de control \
            de la tienda."
        pt "O endereço não foi criado pela Shopify ou é antigo demais. Abra o aplicativo novamente no admin da loja."

    not_an_address_of_shopify()
        en "This is not an address that Shopify leads to."
        de "Zu dieser Adresse führt Shopify nicht."
        fr "Shopify ne mène pas à cette adresse."
        es "Shopify no lleva a esta dirección."
        pt "A Shopify não leva a este endereço."

    installation_cancelled()
        en "You left Shopify's page without installing the app. Nothing was changed."
        de "Sie haben die Seite von Shopify verlassen, ohne die App zu installieren. Es wurde nichts geändert."
        fr "Vous avez quitté la page de Shopify sans installer l’application. Rien n’a été modifié."
        es "Salió de la página de Shopify sin instalar la aplicación. No se ha cambiado nada."
        pt "Você saiu da página da Shopify sem instalar o aplicativo. Nada foi alterado."

    installation_too_old()
        en "The installation took longer than ten minutes, or was begun in another browser."
        de "Die Installation hat länger als zehn Minuten gedauert oder wurde in einem anderen Browser begonnen."
        fr "L’installation a duré plus de dix minutes ou a été commencée dans un autre navigateur."
        es "La instalación duró más de diez minutos o se comenzó en otro navegador."
        pt "A instalação levou mais de dez minutos ou foi iniciada em outro navegador."

    installation_is_finished_once()
        en "An installation can be finished once."
        de "Eine Installation kann nur einmal abgeschlossen werden."
        fr "Une installation ne peut être terminée qu’une seule fois."
        es "Una instalación solo se puede completar una vez."
        pt "Uma instalação só pode ser concluída uma vez."

    open_the_link_first(platform)
        en "Open the login link from {platform} first, then install the app again."
        de "Öffnen Sie zuerst den Anmeldelink von {platform} und installieren Sie dann die App erneut."
        fr "Ouvrez d’abord le lien de connexion envoyé par {platform}, puis installez à nouveau l’application."
        es "Abra primero el enlace de acceso de {platform} y después vuelva a instalar la aplicación."
        pt "Abra primeiro o link de acesso enviado por {platform} e depois instale o aplicativo novamente."

    open_the_link_of_the_site_first()
        en "Open the login link from the site that sent you here first, then install the app again."
        de "Öffnen Sie zuerst den Anmeldelink von der Website, von der Sie kommen, und installieren Sie dann die App \
            erneut."
        fr "Ouvrez d’abord le lien de connexion du site d’où vous venez, puis installez à nouveau l’application."
        es "Abra primero el enlace de acceso del sitio desde el que llegó aquí y después vuelva a instalar la \
            aplicación."
        pt "Abra primeiro o link de acesso do site de onde você veio e depois instale o aplicativo novamente."

    shopify_did_not_finish()
        en "Shopify did not finish the installation. Open the app again in the shop's admin."
        de "Shopify hat die Installation nicht abgeschlossen. Öffnen Sie die App erneut im Adminbereich des Shops."
        fr "Shopify n’a pas terminé l’installation. Rouvrez l’application dans l’interface administrateur de la \
            boutique."
        es "Shopify no completó la instalación. Vuelva a abrir la aplicación en el panel de control de la tienda."
        pt "A Shopify não concluiu a instalação. Abra o aplicativo novamente no admin da loja."

    too_many_installations()
        en "Too many installations came at once. Try again in a while."
        de "Es gab zu viele Installationen auf einmal. Versuchen Sie es nach einer Weile erneut."
        fr "Trop d’installations sont arrivées en même temps. Réessayez dans un moment."
        es "Hubo demasiadas instalaciones a la vez. Vuelva a intentarlo dentro de un rato."
        pt "Houve instalações demais ao mesmo tempo. Tente novamente daqui a pouco."

    title_shop_linked()
        en "Your shop is linked"
        de "Ihr Shop ist verknüpft"
        fr "Votre boutique est associée"
        es "Su tienda está vinculada"
        pt "Sua loja está vinculada"

    shop_is_linked(shop, at)
        en "{shop} is linked{at}."
        de "{shop} ist{at} verknüpft."
        fr "{shop} est associée{at}."
        es "{shop} está vinculada{at}."
        pt "A loja {shop} está vinculada{at}."

    scopes_missing()
        en "The shop did not agree to everything that the app needs. Open the app in the shop's admin and agree to:"
        de "Der Shop hat nicht allem zugestimmt, was die App benötigt. Öffnen Sie die App im Adminbereich des Shops und \
            stimmen Sie Folgendem zu:"
        fr "La boutique n’a pas accepté tout ce dont l’application a besoin. Ouvrez l’application dans l’interface \
            administrateur de la boutique et acceptez\u{a0}:"
        es "La tienda no aceptó todo lo que necesita la aplicación. Abra la aplicación en el panel de control de la \
            tienda y acepte:"
        pt "A loja não aceitou tudo de que o aplicativo precisa. Abra o aplicativo no admin da loja e aceite:"

    go_on_to_choose()
        en "Go on to choose the Facebook Pages that belong to it."
        de "Wählen Sie als Nächstes die zugehörigen Facebook-Seiten aus."
        fr "Choisissez maintenant les Pages Facebook qui lui correspondent."
        es "Ahora elija las páginas de Facebook que le corresponden."
        pt "Agora escolha as Páginas do Facebook que pertencem a ela."

    go_on_to_facebook()
        en "Go on to Facebook"
        de "Weiter zu Facebook"
        fr "Continuer vers Facebook"
        es "Continuar a Facebook"
        pt "Continuar para o Facebook"
}
